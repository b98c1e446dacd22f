"""What a run found, as one object, as a page of HTML, and as tables on a terminal."""
