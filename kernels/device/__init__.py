"""What kernels share. Triton compiles all of it, and nothing here runs on the host."""
