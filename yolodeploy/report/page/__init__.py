"""The page of a report: what its parts say, in the order in which a reader meets them."""
