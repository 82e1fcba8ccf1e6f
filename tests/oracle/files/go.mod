module wirepath/oracle/files

go 1.27
