"""What ``init`` writes into an application's repository, from what it reads there."""
