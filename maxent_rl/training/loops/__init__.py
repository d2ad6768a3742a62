"""The loops that train: on the device, on the host, on fixed data, on tasks of tokens."""
