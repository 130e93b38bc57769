"""Who is trusted: certificates, names and roles, and when plain text is allowed."""
