"""What runs a batch in another process, whatever starts that process."""
