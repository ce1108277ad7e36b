"""What helps to write this project, and is no part of the package."""
