# What a suite script has at hand: counters and two ways to assert.
passed=0
failed=0

# check SENTENCE COMMAND...: the command succeeds
check() {
	sentence=$1
	shift
	if "$@" >/tmp/check.out 2>&1; then
		passed=$((passed + 1))
		echo "ok      $sentence"
	else
		status=$?
		failed=$((failed + 1))
		echo "FAILED  $sentence (exit $status of: $*)"
		tail -n 60 /tmp/check.out | sed 's/^/        | /'
		return 1
	fi
}

# equal SENTENCE EXPECTED ACTUAL
equal() {
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
		echo "ok      $1"
	else
		failed=$((failed + 1))
		printf 'FAILED  %s\n        | expected: %s\n        | actual:   %s\n' "$1" "$2" "$3"
		return 1
	fi
}
