"""What compressing gives and costs, beside what others offer."""
