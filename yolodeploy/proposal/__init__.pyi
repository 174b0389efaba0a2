from .measuring import measure_proposal
from .proposal import Proposal, Wish, Written, propose

__all__ = ["Proposal", "Wish", "Written", "measure_proposal", "propose"]
