"""OAuth 2.0 access tokens for SMTP AUTH (RFC 6749): asked for, kept, renewed before they end."""
