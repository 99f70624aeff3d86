"""How fast a checkpoint goes into the vault and comes out, beside rclone and minio-py on the same server."""
