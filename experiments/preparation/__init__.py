"""What preparing text takes: memory, time and disk, by the size of the text. See the README."""
