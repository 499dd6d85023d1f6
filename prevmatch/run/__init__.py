"""What makes a run survive and be quick: launch, state, checkpoints, records, faults, stopping, shortcuts."""
