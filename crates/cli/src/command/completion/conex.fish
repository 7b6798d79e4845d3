# Completion of @PROGRAM@ command lines in fish:
#
#     @PROGRAM@ completion fish | source
#
# or, for every shell: @PROGRAM@ completion fish > ~/.config/fish/completions/@PROGRAM@.fish

function __@PROGRAM@_ask
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    $program __complete $words (commandline -ct) 2>/dev/null
end

function __@PROGRAM@_candidates
    set -l lines (__@PROGRAM@_ask)
    set -l typed (commandline -ct)
    set -l before ''
    string match -q -- '--*=*' $typed; and set before (string replace -r '=.*' '=' -- $typed)
    for line in $lines[1..-2]
        echo $before$line
    end
end

function __@PROGRAM@_wants_files
    set -l lines (__@PROGRAM@_ask)
    test (count $lines) = 1; and test $lines[-1] = ':0'
end

complete -c @PROGRAM@ -e
complete -c @PROGRAM@ -n '__@PROGRAM@_wants_files' -F
complete -c @PROGRAM@ -n 'not __@PROGRAM@_wants_files' -f -k -a '(__@PROGRAM@_candidates)'
