"""What plain training reaches."""
