# The commands of a document, in order: every block of ```sh, with the heading that it stands under.
# Output: for each block a line "## HEADING", its commands, and a line "##".
/^#+ / { heading = $0; sub(/^#+ +/, "", heading) }
/^```sh$/ { inside = 1; print "## " heading; next }
/^```/ { if (inside) print "##"; inside = 0; next }
inside { print }
