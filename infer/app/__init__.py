"""The page: drop or record a video in a browser, see what is felt in it while it plays."""
