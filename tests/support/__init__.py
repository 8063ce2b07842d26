"""What tests of several kinds share: private daemons, a raw HTTP client, the API's reference, leak counts."""
