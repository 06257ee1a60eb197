"""The reading child for delimited text, JSON Lines and workbooks: it can open no file at all."""

from conosco.collect.files.child import main

if __name__ == "__main__":
    main(None)
