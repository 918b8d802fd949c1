"""All flows and closed forms against simulation, on random configurations."""
