"""A picture of appliances and their tenants, made of what they publish; pure, told the time."""
