from .measures import Key, Measure, grouped, one, plain_measures, read_measures, six_digits

__all__ = ["Key", "Measure", "grouped", "one", "plain_measures", "read_measures", "six_digits"]
