# Completion of @PROGRAM@ command lines in bash:
#
#     source <(@PROGRAM@ completion bash)
#
# or, for every shell: @PROGRAM@ completion bash > /etc/bash_completion.d/@PROGRAM@
#
# The candidates come from the program itself. bash ends words at `:` and `=`,
# the program does not, so the line is split here and what bash has of the last
# word already is taken off the candidates.

_@PROGRAM@_complete() {
    local line=${COMP_LINE:0:COMP_POINT} words current typed kept answer directive candidate
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]}-1]}
    answer=$("${COMP_WORDS[0]}" __completeNoDesc "${words[@]:1}" 2>/dev/null) || return
    directive=${answer##*:}
    answer=${answer%:*}
    typed=$current
    [[ $current == --*=* ]] && typed=${current#*=}
    kept=
    [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]] && kept=${typed%"${typed##*:}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n $candidate && $candidate == "$typed"* ]] && COMPREPLY+=("${candidate#"$kept"}")
    done <<<"$answer"
    if [[ ${#COMPREPLY[@]} == 0 && $directive == 0 ]]; then
        compopt -o default 2>/dev/null
    fi
}

complete -F _@PROGRAM@_complete @PROGRAM@
