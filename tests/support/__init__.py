"""What tests of several rooms start from: a server in the test's own process, a stub service, limits on awaits."""
