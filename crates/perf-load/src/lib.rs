//! A load tester that cannot lie: planned-time latency, open and closed models, known-answer self-test.
