"""On-policy learning with many environments on the device, at equal steps."""
