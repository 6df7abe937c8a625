"""What every layer stands on: files, locks, digests, values, records, and what people read while they wait."""
