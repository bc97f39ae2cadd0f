# shellcheck shell=bash
# Small words for the tests of the packages.

passed=0

step() { printf -- '-- %s\n' "$*"; }

# expect TEXT COMMAND…: the command succeeds.
expect() {
	local what=$1
	shift
	if ! "$@"; then
		printf 'FAILED: %s\n' "$what" >&2
		return 1
	fi
	passed=$((passed + 1))
}

# expect_code CODE TEXT COMMAND…: the command ends with this code.
expect_code() {
	local code=$1 what=$2 got=0
	shift 2
	"$@" || got=$?
	if [ "$got" != "$code" ]; then
		printf 'FAILED: %s: ended with %s, not %s\n' "$what" "$got" "$code" >&2
		return 1
	fi
	passed=$((passed + 1))
}

# says TEXT PATTERN COMMAND…: its output has a line that matches.
says() {
	local what=$1 pattern=$2 output
	shift 2
	output=$("$@" 2>&1) || {
		printf 'FAILED: %s\n%s\n' "$what" "$output" >&2
		return 1
	}
	if ! grep -qE -- "$pattern" <<<"$output"; then
		printf 'FAILED: %s: nothing matches %s in:\n%s\n' "$what" "$pattern" "$output" >&2
		return 1
	fi
	passed=$((passed + 1))
}
