# Completion of @PROGRAM@ command lines in PowerShell:
#
#     @PROGRAM@ completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName '@PROGRAM@' -ScriptBlock {
    param($typed, $line, $cursor)
    $words = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -le $cursor } | ForEach-Object { $_.ToString() })
    $program = $words[0]
    $words = @($words | Select-Object -Skip 1)
    # What is being typed is the last word already, unless a blank follows it.
    if ($typed -eq '') { $words += '""' }
    $answer = @(& $program __complete @words 2>$null)
    $before = ''
    if ($typed -like '--*=*') { $before = $typed.Substring(0, $typed.IndexOf('=') + 1) }
    $answer | Where-Object { $_ -notlike ':*' } | ForEach-Object {
        $name, $about = $_ -split "`t", 2
        if (-not $about) { $about = $name }
        [System.Management.Automation.CompletionResult]::new($before + $name, $name, 'ParameterValue', $about)
    }
}
