from .measuring import with_limits
from .proposal import Proposal, Wish, Written, propose

__all__ = ["Proposal", "Wish", "Written", "propose", "with_limits"]
