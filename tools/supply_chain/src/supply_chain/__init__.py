"""What Taskwire is made of: are its dependencies known to be vulnerable, and are there secrets in its files?"""
