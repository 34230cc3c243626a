"""The microservice chassis: what every Taskwire service stands on, one module per concern."""
