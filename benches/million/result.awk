# Makes RESULT.md of the output of the guest.
function mib(kib) { return sprintf("%.1f", kib / 1024) }
function each(kib) { return sprintf("%.0f", kib * 1024 / connections) }
$1 == "@kernel" { kernel = $2 }
$1 == "@status" { status = $2 }
$1 == "@report" { sub(/^@report /, ""); report = report "    " $0 "\n" }
$1 == "@server" { sub(/^@server /, ""); log_lines = log_lines "    " $0 "\n" }
$1 == "@slab" { slabs = slabs "| " $2 " | " $3 " | " $4 " | " mib($5) " |\n" }
$1 == "@stage" { sub(/^@stage /, ""); stages = stages "    " $0 "\n" }
$1 == "@sample" {
    # The first and the last sample of each stage are shown.
    if ($2 != stage) { row(last); last = ""; stage = $2; row($0) } else { last = $0 }
    if ($2 == "before") { free0 = $6; slab0 = $7; server0 = $8 }
    if ($2 == "measuring") { free1 = $6; slab1 = $7; server1 = $8; load1 = $9 }
    if ($2 == "closed") { server2 = $8; free2 = $6 }
    if ($8 > peak) peak = $8
}
function row(line,    field) {
    if (line == "") return
    split(line, field, " ")
    rows = rows "| " field[2] " | " field[3] " | " field[4] " | " mib(field[5]) " | " mib(field[6]) " | " mib(field[7]) " | " mib(field[8]) " | " mib(field[9]) " |\n"
}
END {
    row(last)
    print "# " connections " idle connections\n"
    print "Written by `benches/million/run` on " date ", commit " commit ". The guest: Linux " kernel ", 2 processors by software"
    print "emulation, " memory " GiB, TCP over loopback, server and load generator in the same guest; heartbeats every " heartbeat " s,"
    print "held for " hold " s; " took " s in all. Byte counts are meaningful here, times are not.\n"
    print "| what | bytes per connection |"
    print "| --- | --- |"
    print "| resident, the server | " each(server1 - server0) " |"
    print "| resident, the load generator | " each(load1) " |"
    print "| the kernel, both ends: what the guest uses beyond the two | " each(free0 - free1 - (server1 - server0) - load1) " |"
    print "| of that, slabs | " each(slab1 - slab0) " |\n"
    print "Resident memory of the server: " mib(server0) " MiB before, " mib(server1) " MiB with all of them open, " mib(peak) " MiB at most, " mib(server2) " MiB after they were closed."
    print "`polecat load` exited with " status " (0 means that all stayed open, and that each got the broadcast once).\n"
    print "```text\n" report "```\n"
    print "Stages, as the load generator reported them (seconds since its start):\n"
    print "```text\n" stages "```\n"
    print "| stage | s | TCP sockets | buffers MiB | free MiB | slabs MiB | server MiB | load MiB |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- |"
    print rows
    print "Slabs over 8 MiB with all of them open (objects, bytes of each, MiB):\n"
    print "| slab | objects | bytes | MiB |"
    print "| --- | --- | --- | --- |"
    print slabs
    print "Output of the server:\n"
    print "```text\n" log_lines "```"
}
