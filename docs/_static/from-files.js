// Excerpts of what was found are fetched, which browsers refuse to pages that are opened as files: there the titles have to do.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
