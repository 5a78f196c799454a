"""The specs of the agents that come with Headrace."""
