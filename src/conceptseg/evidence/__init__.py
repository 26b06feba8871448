"""The claims of the two analyses, and the measurements that settle those that need no training."""
