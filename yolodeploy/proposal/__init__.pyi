from .proposal import Proposal, Wish, Written, propose

__all__ = ["Proposal", "Wish", "Written", "propose"]
