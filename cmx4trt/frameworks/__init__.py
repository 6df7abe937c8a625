"""What the front ends of CM and MLCFlow share: hooks, checks of what was typed, help. Standard library only."""
