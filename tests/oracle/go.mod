module wirepath.dev/oracle

go 1.27
