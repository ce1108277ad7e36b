"""How tensors are laid out for a kernel, where several ops do it alike."""
