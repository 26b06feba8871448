"""One file per format; `recognise` says which of them lies in a folder, `split` what each gives."""
