"""Fixed data on the device, that batches are drawn from."""
