"""Who may: identities, passwords, tokens, and the policy that decides."""
