"""Who is believed: certificates, names and roles, and when plain text is allowed."""
