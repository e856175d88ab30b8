// Waits for what the driver has it do.
