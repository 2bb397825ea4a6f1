"""Access control: identities, passwords, tokens, and the policy that decides."""
