"""OpenAI's files API: datasets as files that its clients upload, list, download and delete."""
