"""What several tests share. Importable as ``kit``: pytest puts this folder's parent on the path."""
