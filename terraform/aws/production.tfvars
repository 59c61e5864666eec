name   = "headwater-production"
region = "eu-west-1"
