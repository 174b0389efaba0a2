"""What survives damage, kills and changed bytes."""
