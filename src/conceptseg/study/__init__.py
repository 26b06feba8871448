"""What every study is made of: pinned weights, shared work that resumes, tables of examples, intervals."""
