mod cuts;
