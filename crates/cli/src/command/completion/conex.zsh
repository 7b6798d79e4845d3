#compdef @PROGRAM@
# Completion of @PROGRAM@ command lines in zsh:
#
#     source <(@PROGRAM@ completion zsh)
#
# or, for every shell: @PROGRAM@ completion zsh > "${fpath[1]}/_@PROGRAM@"

_@PROGRAM@() {
    local -a lines candidates
    local line directive name about
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    directive=${lines[-1]#:}
    lines=("${(@)lines[1,-2]}")
    [[ ${words[CURRENT]} == --*=* ]] && compset -P '*='
    for line in "${lines[@]}"; do
        [[ -z $line ]] && continue
        name=${line%%$'\t'*}
        about=
        [[ $line == *$'\t'* ]] && about=${line#*$'\t'}
        candidates+=("${name//:/\\:}${about:+:$about}")
    done
    if (( ${#candidates} )); then
        _describe -V '@PROGRAM@' candidates
    elif [[ $directive == 0 ]]; then
        _files
    fi
}

if [[ ${funcstack[1]} == _@PROGRAM@ ]]; then
    _@PROGRAM@ "$@"
else
    compdef _@PROGRAM@ @PROGRAM@
fi
