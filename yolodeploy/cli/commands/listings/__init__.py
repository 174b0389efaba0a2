"""Commands that list what there is: plugins, devices, hosts."""
